"""What users bring: data, models and properties, read without running their code."""

from summiteer.data._examples import Examples as Examples
from summiteer.data._examples import examples as examples
from summiteer.data._examples import found_box as found_box
from summiteer.data.adversarial import aligned as aligned
from summiteer.data.adversarial import load_adversarial as load_adversarial
from summiteer.data.adversarial import open_adversarial as open_adversarial
from summiteer.data.column import Column as Column
from summiteer.data.column import Held as Held
from summiteer.data.dataset import BUNDLED as BUNDLED
from summiteer.data.dataset import Dataset as Dataset
from summiteer.data.dataset import Streamed as Streamed
from summiteer.data.dataset import load_data as load_data
from summiteer.data.dataset import open_data as open_data
from summiteer.data.mask import open_mask as open_mask
from summiteer.data.models import load_model as load_model
from summiteer.data.onnx_file import OnnxModel as OnnxModel
from summiteer.data.onnx_file import load_onnx as load_onnx
from summiteer.data.vnnlib import Property as Property
from summiteer.data.vnnlib import load_property as load_property
