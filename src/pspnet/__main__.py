"""`python -m pspnet` is the program `pspnet`."""

from pspnet.cli import main

if __name__ == "__main__":
    main()
