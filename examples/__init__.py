"""The demo: networks of receivers, their simulator, and the training of the models that locate on them."""
