"""The accuracy-energy page of one or several studies: python src/report.py study=demo output=report.html"""

from spikefront.commands.report import main

if __name__ == "__main__":
    main()
