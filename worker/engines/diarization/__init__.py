"""Who speaks when: pyannote's diarization with each window embedded once, and stock's turns.

The models, their parameters and the clustering rules are those of a loaded
`pyannote.audio.pipelines.SpeakerDiarization`; the way to and from them is ours:

    activity         scores of `worker.engines.segmentation` → who is active in which window
    embeddings       windows and their speakers' masks → one vector a (window, speaker)
    clustering       vectors → one global speaker a (window, speaker)
    linkage_process  the dendrogram, in a process of its own
    turns            local activity and global speakers → speaker turns
"""
