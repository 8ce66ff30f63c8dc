"""Ready adapters for known engines, one file each. Each imports its engine when it is used."""
