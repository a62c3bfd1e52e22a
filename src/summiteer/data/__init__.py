"""What users bring: data, models and properties, read without running their code."""

from summiteer.data._examples import box_note as box_note
from summiteer.data._examples import box_of as box_of
from summiteer.data._examples import examples as examples
from summiteer.data.adversarial import aligned as aligned
from summiteer.data.adversarial import load_adversarial as load_adversarial
from summiteer.data.dataset import BUNDLED as BUNDLED
from summiteer.data.dataset import Dataset as Dataset
from summiteer.data.dataset import load_data as load_data
from summiteer.data.mask import load_mask as load_mask
from summiteer.data.models import load_model as load_model
from summiteer.data.onnx_file import OnnxModel as OnnxModel
from summiteer.data.onnx_file import load_onnx as load_onnx
from summiteer.data.vnnlib import Property as Property
from summiteer.data.vnnlib import load_property as load_property
