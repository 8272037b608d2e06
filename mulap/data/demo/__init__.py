"""A demo corpus of real music writing, rendered from packages; see docs/demo-corpus.md.

Reading order: `corpus` (the audiofolder), `clips` (which material, one clip), `scores` and `styles`
(accompaniments), `melodies` (folk tunes and chorales), `sound` (instruments to audio), `text` and
`words` (captions).
"""
