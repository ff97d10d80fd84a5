"""What tests of evl's own share."""

import unittest

import evl


class LoopTest(unittest.TestCase):
    def setUp(self):
        self.loop = evl.new_event_loop()
        self.addCleanup(self.loop.close)

    def run_once(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
