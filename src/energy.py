"""The energy table of one network: python src/energy.py model=sdt_8_512 data=imagenet checkpoint=official.pth.tar"""

from spikefront.commands.energy import main

if __name__ == "__main__":
    main()
