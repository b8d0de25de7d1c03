"""Devices and the one loop that moves them: protocols, drivers, `ServoLoop`.

Imports core only; a vendor's SDK is imported inside its own driver module, lazily.
"""
