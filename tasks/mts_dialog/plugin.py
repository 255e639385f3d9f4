"""MTS-Dialog names sections by codes and has DOS line ends; a model is asked in words."""

# As the data set's authors spell the codes out. The others (ALLERGY, EXAM, PLAN, ...) are words.
_SECTIONS = {
    "FAM/SOCHX": "family and social history",
    "GENHX": "history of present illness",
    "PASTMEDICALHX": "past medical history",
    "CC": "chief complaint",
    "PASTSURGICAL": "past surgical history",
    "ROS": "review of systems",
    "EDCOURSE": "emergency department course",
    "GYNHX": "gynecologic history",
}


def example(row):
    header = row["section_header"].strip()
    return {
        "section": _SECTIONS.get(header.upper(), header.lower().replace("_", " ")),
        "dialogue": "\n".join(line.strip() for line in row["dialogue"].splitlines() if line.strip()),
    }
