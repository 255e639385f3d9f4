"""The small world that nano's text and the nano tasks share: people, things, complaints, drugs.

Pure data, no imports. Two-word entries are avoided where a word is copied, so that copying is a skill of a few tokens.
"""

NAMES = tuple(
    (
        "Ada Ben Cal Dan Eva Fay Gus Hal Ida Jan Kit Leo Mia Ned Ola Pam Ray Sue Tom Una Val Wes Zoe Amy Bob "
        "Cora Dora Emil Finn Gina Hugo Iris Jack Kate Liam Mona Nina Omar Paul Rosa"
    ).split()
)

THINGS = tuple(
    (
        "apples books coins cards eggs hats keys pens rings shells stamps stones toys cups figs nuts pears "
        "plums roses seeds shoes socks stars tiles"
    ).split()
)

HOLDERS = tuple("boxes bags trays jars rows crates baskets shelves".split())

COMPLAINTS = tuple(
    (
        "fever cough rash nausea headache dizziness backache fatigue earache itching hoarseness cramps "
        "vertigo insomnia hiccups palpitations"
    ).split()
)

HISTORY = tuple("asthma diabetes gout migraine eczema anemia epilepsy arthritis glaucoma psoriasis".split())

DRUGS = tuple(
    (
        "aspirin ibuprofen codeine insulin heparin digoxin lithium morphine penicillin quinine ranitidine "
        "senna warfarin zinc iron cetirizine"
    ).split()
)

COLORS = tuple("red blue green black white brown pink gray".split())

PLACES = tuple("attic barn cellar garden garage kitchen library office porch school shed tower".split())
