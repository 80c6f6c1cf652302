"""stub"""


def top_k(scores, k):
    return sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:k]


def quality_complexity(*a):
    return []


def facility_location(*a):
    return []
