"""The hardware: cameras, indicator, clocks. Imports nothing of agent."""
