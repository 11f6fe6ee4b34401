"""Who speaks when: pyannote's diarization with each window embedded once, and stock's turns.

Models, parameters and clustering are those of a loaded `SpeakerDiarization`; the way to and from
them is ours: `activity` (who is active in which window), `embeddings` (a vector for each of them),
`clustering` (whose vector it is; `linkage_process` makes the dendrogram), `turns`.
"""
