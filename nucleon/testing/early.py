"""`-p nucleon.testing.early`: patch the standard library before pytest loads any other plugin.

Plugins that arrive through entry points (pytest-cov, hypothesis, ...) may import `ssl` or `threading`; patching after them makes
gevent warn, rightly. Options given with `-p` are read before entry points, so this module is the first that a test run imports.
"""

from nucleon import green

green.patch()
