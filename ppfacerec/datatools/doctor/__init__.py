"""``ppfacerec doctor``: find what would end a training run or cost accuracy."""

from ppfacerec.datatools.doctor.doctor import examine_config, examine_folder, read_tests
from ppfacerec.datatools.doctor.findings import Finding, as_json, as_table

__all__ = ["Finding", "as_json", "as_table", "examine_config", "examine_folder", "read_tests"]
