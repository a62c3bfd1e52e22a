"""The works that docstrings cite by key, how to cite them, and what rests on which.

works.toml is the one file that lists them; a test holds it, the docstrings and the
graph of methods together.
"""

from summiteer.bibliography.formats import FORMATS as FORMATS
from summiteer.bibliography.formats import Format as Format
from summiteer.bibliography.formats import cited as cited
from summiteer.bibliography.methods import METHODS as METHODS
from summiteer.bibliography.methods import RELATED as RELATED
from summiteer.bibliography.methods import Method as Method
from summiteer.bibliography.reference import PAPER as PAPER
from summiteer.bibliography.reference import REFERENCES as REFERENCES
from summiteer.bibliography.reference import SELF as SELF
from summiteer.bibliography.reference import SUMMITEER as SUMMITEER
from summiteer.bibliography.reference import Reference as Reference
