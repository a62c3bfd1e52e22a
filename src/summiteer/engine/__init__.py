"""How cells are run: in this process, or by the workers of a Dask cluster.

Engines know nothing of what a cell means, and never write: the driver does.
"""

from summiteer.engine.completion import Completion as Completion
from summiteer.engine.completion import Measurement as Measurement
from summiteer.engine.completion import completed as completed
from summiteer.engine.opening import opened as opened
from summiteer.engine.opening import refuse_unguarded as refuse_unguarded
from summiteer.engine.serial import Engine as Engine
from summiteer.engine.serial import Serial as Serial
from summiteer.engine.threads import one_thread as one_thread
