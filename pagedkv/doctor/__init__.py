"""Reads what a running engine leaves behind, and says which pitfall is in it."""

from pagedkv.doctor.diagnose import diagnose
from pagedkv.doctor.diagnosis import Diagnosis, FileReport
from pagedkv.doctor.thresholds import LogThresholds, StateThresholds, TimelineThresholds

__all__ = [
    "Diagnosis",
    "FileReport",
    "LogThresholds",
    "StateThresholds",
    "TimelineThresholds",
    "diagnose",
]
