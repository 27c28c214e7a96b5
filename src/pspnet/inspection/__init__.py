"""What a network costs, before it runs: shapes, parameters, operations, memory and time.

    print(model_info(ModelConfig(encoder="resnet50"), height=473, width=473, batch=4))

The network is run once on tensors that have shapes but no memory, forward, backward and update; every operation is
noted. So the prediction follows from the network itself, for any configuration, in seconds, on any machine.
"""

from pspnet.inspection.calls import Call, CallLedger
from pspnet.inspection.costs import Cost, forward_cost, training_cost
from pspnet.inspection.model_parts import ModelInfo, model_info
from pspnet.inspection.rates import Machine, measure_machine

__all__ = [
    "Call",
    "CallLedger",
    "Cost",
    "Machine",
    "ModelInfo",
    "forward_cost",
    "measure_machine",
    "model_info",
    "training_cost",
]
