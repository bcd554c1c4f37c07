"""Localisation from powers that were really measured: POWDER, University of Utah, 462.7 MHz (Zenodo 7259895)."""
