"""Makes observations.csv. The colonies and the birds are invented; the same seed gives the same file."""
import csv
import random
from pathlib import Path

COLONIES = {"Pebble Bay": 4.1, "North Spit": 3.7, "Old Jetty": 4.6, "Lighthouse": 3.9}


def rows(seed=7, per_colony=30):
    chance = random.Random(seed)
    for colony, typical_kg in COLONIES.items():
        for ring in range(per_colony):
            # Now and then a bird walks away before it is weighed.
            weight = "" if chance.random() < 0.05 else round(chance.gauss(typical_kg, 0.35), 2)
            yield {
                "colony": colony,
                "ring": f"{colony[:2].upper()}{ring:03}",
                "weight_kg": weight,
                "chicks": chance.choices([0, 1, 2], weights=[2, 5, 3])[0],
            }


if __name__ == "__main__":
    with open(Path(__file__).with_name("observations.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, ["colony", "ring", "weight_kg", "chicks"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows())
