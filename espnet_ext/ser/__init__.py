"""The paper's model. Decoders and losses by the names that a configuration gives them.

A new one is a module here and a line below.
"""

DECODERS = {"emotion": "espnet_ext.ser.decoder:EmotionDecoder"}
LOSSES = {"joint": "espnet_ext.ser.losses:JointLoss"}
