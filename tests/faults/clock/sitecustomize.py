"""On the path of one worker: its clock is 10 minutes late. Leases must not care."""

import datetime
import time

OFFSET = -600
_time = time.time
time.time = lambda: _time() + OFFSET


class _Late(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=OFFSET)


datetime.datetime = _Late
