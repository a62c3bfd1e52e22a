"""The functions of torch that only change a row's shape, or read it.

Rows stay rows: whatever would mix them, or count them, is `Unknown`.
"""

from typing import Any

from summiteer.networks.construction import Construction, Unknown, Value, whole


class Batch:
    """The number of rows, which a program leaves open."""


BATCH = Batch()


def computed(given: object) -> Value:
    """A value of the network, where one is expected."""
    if not isinstance(given, Value):
        raise Unknown(f"{type(given).__name__} in the place of a computed value")
    return given


def flatten(
    build: Construction, input: Any, start_dim: Any = 0, end_dim: Any = -1
) -> Value:
    """torch.flatten, but never of the rows."""
    value = computed(input)
    first, last = dimension(start_dim, value), dimension(end_dim, value)
    if last < first:
        raise Unknown(f"start_dim={start_dim}, end_dim={end_dim}")
    size = 1
    for one in value.shape[first - 1 : last]:
        size *= one
    shape = (*value.shape[: first - 1], size, *value.shape[last:])
    return build.reshape(value, shape)


def unflatten(build: Construction, input: Any, dim: Any, sizes: Any) -> Value:
    """torch.unflatten, but never of the rows."""
    value = computed(input)
    place = dimension(dim, value) - 1
    if not isinstance(sizes, tuple | list):
        raise Unknown(f"sizes {sizes!r}")
    inner = _sizes(list(sizes), value.shape[place])
    shape = (*value.shape[:place], *inner, *value.shape[place + 1 :])
    return build.reshape(value, shape)


def view(build: Construction, input: Any, *shape: Any) -> Value:
    """x.view(rows, …) and x.reshape(rows, …)."""
    value = computed(input)
    if len(shape) == 1 and isinstance(shape[0], tuple | list):
        shape = tuple(shape[0])
    total = 1
    for one in value.shape:
        total *= one
    if shape and shape[0] is BATCH:
        return build.reshape(value, _sizes(list(shape[1:]), total))
    if shape and type(shape[0]) is int and shape[0] == -1 and -1 not in shape[1:]:
        return build.reshape(value, _sizes(list(shape[1:]), total))
    raise Unknown("a shape that does not keep the rows first")


def squeeze(build: Construction, input: Any, dim: Any) -> Value:
    """x.squeeze(dim), but never of the rows."""
    value = computed(input)
    place = dimension(dim, value) - 1
    if value.shape[place] != 1:
        return value
    return build.reshape(value, (*value.shape[:place], *value.shape[place + 1 :]))


def unsqueeze(build: Construction, input: Any, dim: Any) -> Value:
    """x.unsqueeze(dim), but never before the rows."""
    value = computed(input)
    place = whole(dim, "dim")
    place = place + len(value.shape) + 2 if place < 0 else place
    if not 1 <= place <= len(value.shape) + 1:
        raise Unknown(f"dim={dim} of a row {list(value.shape)}")
    shape = (*value.shape[: place - 1], 1, *value.shape[place - 1 :])
    return build.reshape(value, shape)


def size(build: Construction, input: Any, dim: Any = None) -> Any:
    """x.size()."""
    sizes = (BATCH, *computed(input).shape)
    if dim is None:
        return sizes
    place = whole(dim, "dim")
    if not -len(sizes) <= place < len(sizes):
        raise Unknown(f"dim={dim}")
    return sizes[place]


def attribute(build: Construction, input: Any, name: Any) -> Any:
    """x.shape."""
    if name != "shape":
        raise Unknown(f"the attribute {name}")
    return size(build, input)


def item(build: Construction, owner: Any, index: Any) -> Any:
    """An entry or a slice of a shape."""
    if type(owner) is not tuple or not isinstance(index, int | slice):
        raise Unknown("an indexed value")
    try:
        return owner[index]
    except (IndexError, TypeError) as error:
        raise Unknown(str(error)) from error


def dimension(dim: object, value: Value) -> int:
    """A dimension of the batch as 1, 2, …; not 0, the rows."""
    place = whole(dim, "dim")
    place = place + len(value.shape) + 1 if place < 0 else place
    if not 1 <= place <= len(value.shape):
        raise Unknown(f"dimension {dim} of rows {list(value.shape)}")
    return place


def _sizes(sizes: list[object], total: int) -> tuple[int, ...]:
    """Sizes with at most one -1, which is what the others leave of the total."""
    known, open_places = 1, []
    for place, one in enumerate(sizes):
        if whole(one, "a size") == -1:
            open_places.append(place)
        else:
            known *= whole(one, "a size")
    if len(open_places) > 1 or known < 1 or (open_places and total % known):
        raise Unknown(f"sizes {sizes} of {total} numbers")
    for place in open_places:
        sizes[place] = total // known
    return tuple(whole(one, "a size") for one in sizes)
