"""A callback of ten lines: note each best score in a file, and stop when it is good enough."""

import paddle

import ppfacerec


class GoodEnough(ppfacerec.Callback):
    """Write each best average accuracy to best.txt; end the training at `accuracy`."""

    def __init__(self, accuracy: float = 0.99) -> None:
        self.accuracy = accuracy

    def on_evaluate(self, state, epoch, evaluation, is_best):
        if is_best and paddle.distributed.get_rank() == 0:
            with open("best.txt", "a") as file:
                file.write(f"epoch {epoch}: {evaluation.average_accuracy:.5f}\n")
        self.wants_stop = evaluation.average_accuracy >= self.accuracy
