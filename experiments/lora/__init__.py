"""LoRA against full training at equal wall time, LoRAs extracted from full runs, and LoRAs of two subjects merged."""
