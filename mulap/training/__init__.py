"""Training: from settings and tracks to a checkpoint.

Reading order: `loop`, `checkpoints` and `processes` (what both kinds of training share), then

    pre-training    `settings`, `initial` (the model that training starts from), `trainer`,
                    `evaluate` (losses and matching), `retrieval`, `progress`, `pretrain`, `report`
    supervised      `supervised_settings`, `classifier`, `tracks` (crops and segments),
                    `supervised_trainer`, `supervised_run` (one fold), `supervised`
"""
