"""AMQP: topology, connection, intake, replies and control."""
