"""The shape of a run that goes on from a model: what the run file says, and what the model's folder says.

Core: pure functions of a run file.
"""

from swarm.errors import BadConfig
from swarm.run_file import ModelSection, RunFile
from swarm.spec import NANO, ModelSpec


def with_shape(file: RunFile, shape: ModelSpec) -> RunFile:
    """The run file with the shape of the model it starts from, where it says nothing but the defaults.

    ``seq_len`` is the run's own, at most the model's. Raises ``BadConfig`` naming the key that differs.
    """
    known = {name: getattr(shape, name) for name in ModelSpec.__struct_fields__}
    known["norm_eps"] = known.pop("norm_eps_nano") / NANO
    longest = known.pop("seq_len")
    defaults = ModelSection()
    for name, value in known.items():
        given = getattr(file.model, name)
        if given not in {value, getattr(defaults, name)}:
            raise BadConfig(
                f"[model] {name} = {given}, and the model of init_from has {value}",
                hint=f"remove {name} from [model]: the shape comes from init_from",
            )
    if file.model.seq_len > max(longest, defaults.seq_len):
        raise BadConfig(
            f"[model] seq_len = {file.model.seq_len}, and the model of init_from has {longest} positions",
            hint=f"set seq_len to at most {longest}",
        )
    known["seq_len"] = min(file.model.seq_len, longest)
    return file.model_copy(update={"model": file.model.model_copy(update=known)})
