"""``ppfacerec demo-data``."""

import argparse

from ppfacerec.core.log import logger
from ppfacerec.demo.demo_faces import make_demo_data


def demo_data(arguments: argparse.Namespace) -> int:
    made = make_demo_data(
        arguments.out, arguments.num_identities, arguments.images_per_identity, arguments.num_pairs, arguments.seed
    )
    logger.info("Synthetic demo data in %s", made)
    return 0
