"""How snapshots of engines are shown in a terminal."""
