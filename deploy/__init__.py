"""How Heimdall is put to work: on one machine (`local`), in containers, on Kubernetes."""
