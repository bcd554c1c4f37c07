"""The documentation, and the program that generates parts of it and the schemas from the code."""
