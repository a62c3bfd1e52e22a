"""Which method, how many steps and restarts: a pilot run on a sample."""

from summiteer.planning._plan import METHODS as METHODS
from summiteer.planning._plan import Plan as Plan
from summiteer.planning._plan import plan as plan
from summiteer.planning.setting import Checked as Checked
from summiteer.planning.setting import Setting as Setting
