# C types for answers.py; the code itself is there, and runs without this file.
from nucleon.message.response cimport Response
