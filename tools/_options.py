"""Options that several commands share."""

import click

device_option = click.option("--device", metavar="NAME", help="cpu or cuda. [default: cuda where there is a GPU]")
checkpoint_option = click.option("-c", "--checkpoint", metavar="PATH",
                                 help="Generator file, checkpoint, run or folder of runs. [default: the demo]")
