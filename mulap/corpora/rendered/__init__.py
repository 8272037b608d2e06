"""Music rendered from packages: a demo corpus and hours to train on; see docs/rendered-music.md."""
