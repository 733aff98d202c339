"""Further benchmarks of photographs as data: VisDA-2017, DomainNet, PACS, VLCS and ImageCLEF-DA.

None of them can be downloaded here. What `by_hand` says is the message of the error if one is
missing. Published results are those of the pixels as stored, so no EXIF orientation is followed.
"""

from __future__ import annotations

from da.data.benchmarks import Benchmark, all_pairs

_VISDA_DOMAINS = {"train": 152397, "validation": 55388}

VISDA2017 = Benchmark(
    name="visda2017",
    title="VisDA-2017",
    folder="visda2017",
    domains=_VISDA_DOMAINS,
    classes=tuple(
        """aeroplane bicycle bus car horse knife motorcycle person plant skateboard train
        truck""".split()
    ),
    tasks=(("train", "validation"),),
    citation="Peng, Usman, Kaushik, Hoffman, Wang, Saenko. VisDA: The visual domain adaptation "
    "challenge. arXiv 2017. train is rendered, validation is photographs.",
    by_hand=dict.fromkeys(
        _VISDA_DOMAINS,
        "published by its authors at https://github.com/VisionLearningGroup/taskcv-2017-public "
        "(classification); unpack train.tar and validation.tar so that visda2017/ holds the "
        "folders train and validation",
    ),
    exif_orientation=False,
)

_DOMAINNET_SPLITS = {
    "clipart": {"train": 33525, "test": 14604},
    "infograph": {"train": 36023, "test": 15582},
    "painting": {"train": 50416, "test": 21850},
    "quickdraw": {"train": 120750, "test": 51750},
    "real": {"train": 120906, "test": 52041},
    "sketch": {"train": 48212, "test": 20916},
}
_DOMAINNET_DOMAINS = {domain: sum(counts.values()) for domain, counts in _DOMAINNET_SPLITS.items()}

# The cleaned version, which the authors recommend and later papers use.
DOMAINNET = Benchmark(
    name="domainnet",
    title="DomainNet",
    folder="domainnet",
    domains=_DOMAINNET_DOMAINS,
    classes=tuple(
        """
        aircraft_carrier airplane alarm_clock ambulance angel animal_migration ant anvil apple arm
        asparagus axe backpack banana bandage barn baseball baseball_bat basket basketball bat
        bathtub beach bear beard bed bee belt bench bicycle binoculars bird birthday_cake
        blackberry blueberry book boomerang bottlecap bowtie bracelet brain bread bridge broccoli
        broom bucket bulldozer bus bush butterfly cactus cake calculator calendar camel camera
        camouflage campfire candle cannon canoe car carrot castle cat ceiling_fan cello cell_phone
        chair chandelier church circle clarinet clock cloud coffee_cup compass computer cookie
        cooler couch cow crab crayon crocodile crown cruise_ship cup diamond dishwasher
        diving_board dog dolphin donut door dragon dresser drill drums duck dumbbell ear elbow
        elephant envelope eraser eye eyeglasses face fan feather fence finger fire_hydrant
        fireplace firetruck fish flamingo flashlight flip_flops floor_lamp flower flying_saucer
        foot fork frog frying_pan garden garden_hose giraffe goatee golf_club grapes grass guitar
        hamburger hammer hand harp hat headphones hedgehog helicopter helmet hexagon hockey_puck
        hockey_stick horse hospital hot_air_balloon hot_dog hot_tub hourglass house house_plant
        hurricane ice_cream jacket jail kangaroo key keyboard knee knife ladder lantern laptop
        leaf leg light_bulb lighter lighthouse lightning line lion lipstick lobster lollipop
        mailbox map marker matches megaphone mermaid microphone microwave monkey moon mosquito
        motorbike mountain mouse moustache mouth mug mushroom nail necklace nose ocean octagon
        octopus onion oven owl paintbrush paint_can palm_tree panda pants paper_clip parachute
        parrot passport peanut pear peas pencil penguin piano pickup_truck picture_frame pig
        pillow pineapple pizza pliers police_car pond pool popsicle postcard potato power_outlet
        purse rabbit raccoon radio rain rainbow rake remote_control rhinoceros rifle river
        roller_coaster rollerskates sailboat sandwich saw saxophone school_bus scissors scorpion
        screwdriver sea_turtle see_saw shark sheep shoe shorts shovel sink skateboard skull
        skyscraper sleeping_bag smiley_face snail snake snorkel snowflake snowman soccer_ball sock
        speedboat spider spoon spreadsheet square squiggle squirrel stairs star steak stereo
        stethoscope stitches stop_sign stove strawberry streetlight string_bean submarine suitcase
        sun swan sweater swing_set sword syringe table teapot teddy-bear telephone television
        tennis_racquet tent The_Eiffel_Tower The_Great_Wall_of_China The_Mona_Lisa tiger toaster
        toe toilet tooth toothbrush toothpaste tornado tractor traffic_light train tree triangle
        trombone truck trumpet t-shirt umbrella underwear van vase violin washing_machine
        watermelon waterslide whale wheel windmill wine_bottle wine_glass wristwatch yoga zebra
        zigzag""".split()
    ),
    tasks=all_pairs(_DOMAINNET_DOMAINS),
    citation="Peng, Bai, Xia, Huang, Saenko, Wang. Moment matching for multi-source domain "
    "adaptation. ICCV 2019. The cleaned version.",
    splits=_DOMAINNET_SPLITS,
    lists=("{domain}_{split}.txt", "image_list/{domain}_{split}.txt"),
    by_hand=dict.fromkeys(
        _DOMAINNET_DOMAINS,
        "published by its authors at http://ai.bu.edu/M3SDA/ (cleaned version); unpack it so that "
        "domainnet/ holds the folders of the domains, and put the lists <domain>_train.txt and "
        "<domain>_test.txt beside them",
    ),
    exif_orientation=False,
)

_PACS_DOMAINS = {"art_painting": 2048, "cartoon": 2344, "photo": 1670, "sketch": 3929}

PACS = Benchmark(
    name="pacs",
    title="PACS",
    folder="pacs",
    domains=_PACS_DOMAINS,
    classes=tuple("dog elephant giraffe guitar horse house person".split()),
    tasks=all_pairs(_PACS_DOMAINS),
    citation="Li, Yang, Song, Hospedales. Deeper, broader and artier domain generalization. "
    "ICCV 2017.",
    by_hand=dict.fromkeys(
        _PACS_DOMAINS,
        "domainbed/scripts/download.py of https://github.com/facebookresearch/DomainBed fetches "
        "it; lay it out so that pacs/ holds the folders art_painting, cartoon, photo and sketch",
    ),
    exif_orientation=False,
)

_VLCS_DOMAINS = {"caltech101": 1415, "labelme": 2656, "sun09": 3282, "voc2007": 3376}

VLCS = Benchmark(
    name="vlcs",
    title="VLCS",
    folder="vlcs",
    domains=_VLCS_DOMAINS,
    classes=tuple("bird car chair dog person".split()),
    tasks=all_pairs(_VLCS_DOMAINS),
    citation="Fang, Xu, Rockmore. Unbiased metric learning: on the utilization of multiple "
    "datasets and web images for softening bias. ICCV 2013.",
    by_hand=dict.fromkeys(
        _VLCS_DOMAINS,
        "domainbed/scripts/download.py of https://github.com/facebookresearch/DomainBed fetches "
        "it; lay it out so that vlcs/ holds the folders Caltech101, LabelMe, SUN09 and VOC2007",
    ),
    exif_orientation=False,
)

_CLEF_DOMAINS = {"i": 600, "p": 600, "c": 600}

IMAGECLEF_DA = Benchmark(
    name="imageclef_da",
    title="ImageCLEF-DA",
    folder="image-clef",
    domains=_CLEF_DOMAINS,
    classes=tuple(
        """aeroplane bike bird boat bottle bus car dog horse monitor motorbike people""".split()
    ),
    tasks=all_pairs(_CLEF_DOMAINS),
    citation="Caputo et al. ImageCLEF 2014: overview and analysis of the results. CLEF 2014. As "
    "Long, Zhu, Wang, Jordan (JAN, ICML 2017) use it: i is ImageNet, p Pascal VOC, c Caltech-256.",
    lists=("list/{domain}List.txt", "{domain}_list.txt", "{domain}.txt"),
    by_hand=dict.fromkeys(
        _CLEF_DOMAINS,
        "the authors of CDAN link it at https://github.com/thuml/CDAN; unpack it so that "
        "image-clef/ holds the folders i, p and c and the lists list/iList.txt, list/pList.txt and "
        "list/cList.txt",
    ),
    exif_orientation=False,
)
