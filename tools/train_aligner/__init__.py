"""How `builder/align_en_tiny` was made and is measured; the product never imports this.

sentences → flite, espeak (speech with phone times) → letters (onset of each letter) → corpus
→ windows, augmentation → training → evaluation. `python -m tools.train_aligner --help`.
"""
