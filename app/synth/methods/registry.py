"""The ways of making data, by name. A method joins with its module: import it and add its METHOD."""

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
