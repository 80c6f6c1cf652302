"""All methods by name. To add a method, import its module and add it to METHODS."""

from app.synth.methods import dialogue, documents, evol_instruct, responses, safety, self_instruct, templates
from app.synth.methods.method import Draw, Method

__all__ = ["DEFAULT_METHOD", "METHODS", "Draw", "Method"]

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (
        self_instruct,
        evol_instruct,
        responses,
        dialogue,
        templates,
        documents,
        safety,
    )
}
DEFAULT_METHOD = self_instruct.METHOD.name
