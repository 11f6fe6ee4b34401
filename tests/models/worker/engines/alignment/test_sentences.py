"""Sentences end where their language ends them, with the quotes and brackets that they close."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.engines.alignment.words import split_sentences
from worker.types import letters

TEXTS = {
    "zh": "你好。|今天天气很好！|你要去吗？|他说：“好的。”|价格是３．５元。|真的吗?|真的!”|好",
    "ja": "おはようございます。|元気ですか？|「はい。」|と彼は言った。|本当に！？|ええ",
    "hi": "नमस्ते। |आप कैसे हैं? |मैं ठीक हूँ।|धन्यवाद॥ |अच्छा",
    "ar": "مرحبا. |كيف حالك؟ |أنا بخير! |شكرا",
    "ur": "السلام علیکم۔ |آپ کیسے ہیں؟ |میں ٹھیک ہوں۔|شکریہ",
    "hy": "Բարեւ։ |Ինչպես ես։ |Լավ",
    "my": "မင်္ဂလာပါ။ |နေကောင်းလား။ |ကောင်းပါတယ်",
    "km": "សួស្តី។ |អ្នកសុខសប្បាយទេ? |បាទ",
    "am": "ሰላም። |እንዴት ነህ፧ |ደህና",
    "el": "Τι κάνεις; |Είμαι καλά. |Ευχαριστώ",
    "en": 'Mr. Smith paid $3.50; yes. |He left (at noon). |"Go!" |Did he; |No.'.replace(
        "; |", "; "
    ),
    "de": "Das kostet 3,5 Mio. Euro. |Gut.",
}


@pytest.mark.usefixtures("aligners")
@pytest.mark.parametrize("language", TEXTS)
def test_a_text_has_its_own_sentences(language: str) -> None:
    expected = [part.strip() for part in TEXTS[language].split("|")]
    text = TEXTS[language].replace("|", "")
    assert [text[a:b] for a, b in split_sentences(text, language)] == expected


@pytest.mark.usefixtures("aligners")
@given(
    st.text(st.sampled_from('ab .!?。！؟।”」")(“\n你ก3;Σ'), max_size=30),
    st.sampled_from(["el", "zh"]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sentences_hold_all_text_in_order(text: str, language: str) -> None:
    spans = split_sentences(text, language)
    assert letters("".join(text[a:b] for a, b in spans)) == letters(text)
    assert all(a < b for a, b in spans)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


@pytest.mark.usefixtures("aligners")
def test_stock_knows_no_other_scripts() -> None:
    assert split_sentences("你好。世界。", "zh", is_stock=True) == [(0, 6)]
