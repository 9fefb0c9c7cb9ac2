# SPDX-License-Identifier: Apache-2.0
# New processes do not exist yet: every way to make one fails with an error that
# Python can report, and the program goes on.
import os, subprocess

for attempt in (lambda: subprocess.run(["/bin/true"]), os.fork, lambda: os.posix_spawn("/bin/true", ["true"], {})):
    try:
        attempt()
        print("a child was made")
    except OSError as error:
        print("refused", type(error).__name__)
print("still here")
