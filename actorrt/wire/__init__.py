"""The wire: what lies between a machine's message and the frames of a transport.

Theory of operation
-------------------
From the outside in:

* ``router``: names of processes, their channels, requests and their answers, loss. The only file that knows transports.
* ``peers``: what the router keeps per process and per channel.
* ``requests``: futures that wait for an answer, with deadlines.
* ``handshake``: the opening of a channel (pure): versions, cluster, mutual proof of the token.
* ``codec``: one message to frames and back, large buffers uncopied.
* ``records``, ``values``, ``failures``: what travels inside messages: specs, user values, exceptions.

A message takes this way: ``Shell`` -> ``Router.send`` -> ``Codec.encode`` -> channel ... channel -> ``Codec.decode`` ->
the ``post`` attached for the receiving actor. Nothing on this way knows what a message means or unpickles a value.

What the wire promises to machines: messages from one actor to another arrive in order and at most once; ``PeerGone`` is
told after the last of them; every request ends. What it does not promise: that a message arrives.
"""
