"""Conformance of tiers that hold KV blocks outside the device."""
