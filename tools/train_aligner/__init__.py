"""How `builder/align_en_tiny` was made and is measured; the product never imports this.

speech (sentences, and speech with phone times) → corpus (onset of each letter) → examples
→ training → evaluation. `python -m tools.train_aligner --help`.
"""
