"""Contamination is found in scripts that set no blanks between words, as it is in those that do."""

from __future__ import annotations

import pytest

from slmbench.contamination.ngrams import words_of
from slmbench.contamination.overlaps import RowText, find_contamination

SENTENCES = {
    "chinese": ("患者因反复发作的胸痛三天入院，既往有高血压病史。", "检查显示心电图正常，血压偏高，建议进一步检查。"),
    "japanese": ("患者は三日前から続く胸の痛みのために入院しました。", "心電図は正常でしたが、血圧が高かったです。"),
    "thai": ("ผู้ป่วยเข้าโรงพยาบาลเนื่องจากเจ็บหน้าอกมาสามวัน", "ผลตรวจคลื่นไฟฟ้าหัวใจปกติแต่ความดันโลหิตสูง"),
    "english": (
        "The patient was admitted because of chest pain that had come back for three whole days.",
        "The electrocardiogram was normal but the blood pressure was high, so more tests were done soon after.",
    ),
}


@pytest.mark.parametrize("language", SENTENCES)
def test_a_sentence_inside_another_text_is_found(language: str) -> None:
    first, second = SENTENCES[language]
    training = {"t": [RowText("train-0", f"甲乙 x: {first} yz", "1"), RowText("train-1", f"{second[:9]} abc", "2")]}
    evaluation = {"e/test": [RowText("test-0", f"{second} {first}", "3")]}
    (overlap,) = find_contamination(training, evaluation).overlaps
    assert overlap.rows["ngram"] == (0,)


def test_a_character_is_a_word_only_where_no_blanks_are_set() -> None:
    assert words_of("日本語のABC文、3 - 2") == ["日", "本", "語", "の", "abc", "文", "3", "-", "2"]
    assert words_of("ที่นี่ ok") == ["ที่", "นี่", "ok"]
    assert words_of("Größe дома 한국어 문장") == ["größe", "дома", "한국어", "문장"]
    assert words_of("ﾊﾟﾝ") == ["パ", "ン"]
