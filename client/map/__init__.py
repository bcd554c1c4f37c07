"""The live map: what the workers tell, held in bounded memory, and a page that shows it."""
