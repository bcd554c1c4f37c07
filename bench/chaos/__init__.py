"""The fault suite: everything that can break is broken, under load, and every confirmed job is accounted for.

| module | what it holds |
|---|---|
| `oracle` | what became of every job; pure |
| `scenarios` | what is broken, and the bounds beside "nothing lost" |
| `world`, `workers`, `site` | one scenario's surroundings; its supervised workers; the servers and the model |
| `load`, `recorder`, `journal`, `jobs` | publisher and recorder, their own process; what they write down; the jobs |
| `gathering` | waiting for the end of every job |
| `injection`, `injected` | what is changed inside a worker's process at its start |
| `proxy`, `passages`, `frames` | a bad network; the way through it; AMQP frames |
| `broker_side` | what the suite itself asks of the broker |
| `cluster` | three brokers that are one |
| `run`, `report`, `publish` | rows of a run; the report; the page that shows it |
"""
