"""Who speaks when, computed in windows: pyannote's diarization with each window embedded once.

The models, their parameters and the clustering rules are those of a loaded
`pyannote.audio.pipelines.SpeakerDiarization`; what is done anew is the way to and from them, so
that the turns are stock's and the work is not done three times:

    windows       where windows lie, and their samples, a slice at a time
    segmentation  windows → scores of up to three local speakers, frame by frame
    activity      scores → who is active in which window
    embeddings    windows and their speakers' masks → one vector a (window, speaker)
    clustering    vectors → one global speaker a (window, speaker)
    reconstruct   local activity and global speakers → speaker turns
    frames        the frames that windows share, and sums over them
    batches       how many windows fit into memory
    linkage       the dendrogram, in a process of its own
"""
