"""MTG-Jamendo: 55,000 full tracks with tags, as four tasks: top 50, genre, instrument, mood/theme.

All four read tables of one form, a row a track, its tags in the last cells, and share the audio.
Only split-0 is here, the one that papers report; the sizes of split-1 to split-4 are not published
with them. The audio is fetched with MTG's own script (hundreds of gigabytes), see `BY_HAND`.
"""

from pathlib import Path

from mulap.corpora.public_sets.mtg_jamendo import COLUMNS, SPLIT_FILES
from mulap.data.official_files import find_layout, read_table
from mulap.tasks.task import Example, Problems, Remote, Task

GENRES = tuple(
    f"genre---{name}"
    for name in (
        "60s 70s 80s 90s acidjazz alternative alternativerock ambient atmospheric blues bluesrock "
        "bossanova breakbeat celtic chanson chillout choir classical classicrock club contemporary "
        "country dance darkambient darkwave deephouse disco downtempo drumnbass dub dubstep "
        "easylistening edm electronic electronica electropop ethno eurodance experimental folk "
        "funk fusion groove grunge hard hardrock hiphop house idm improvisation indie industrial "
        "instrumentalpop instrumentalrock jazz jazzfusion latin lounge medieval metal minimal "
        "newage newwave orchestral pop popfolk poprock postrock progressive psychedelic punkrock "
        "rap reggae rnb rock rocknroll singersongwriter soul soundtrack swing symphonic synthpop "
        "techno trance triphop world worldfusion"
    ).split()
)
INSTRUMENTS = tuple(
    f"instrument---{name}"
    for name in (
        "accordion acousticbassguitar acousticguitar bass beat bell bongo brass cello clarinet "
        "classicalguitar computer doublebass drummachine drums electricguitar electricpiano flute "
        "guitar harmonica harp horn keyboard oboe orchestra organ pad percussion piano pipeorgan "
        "rhodes sampler saxophone strings synthesizer trombone trumpet viola violin voice"
    ).split()
)
MOODS = tuple(
    f"mood/theme---{name}"
    for name in (
        "action adventure advertising background ballad calm children christmas commercial cool "
        "corporate dark deep documentary drama dramatic dream emotional energetic epic fast film "
        "fun funny game groovy happy heavy holiday hopeful inspiring love meditative melancholic "
        "melodic motivational movie nature party positive powerful relaxing retro romantic sad "
        "sexy slow soft soundscape space sport summer trailer travel upbeat uplifting"
    ).split()
)
_TOP = frozenset(
    (
        "alternative ambient atmospheric chillout classical dance downtempo easylistening "
        "electronic experimental folk funk hiphop house indie instrumentalpop jazz lounge metal "
        "newage orchestral pop popfolk poprock reggae rock soundtrack techno trance triphop world "
        "acousticguitar bass computer drummachine drums electricguitar electricpiano guitar "
        "keyboard piano strings synthesizer violin voice emotional energetic film happy relaxing"
    ).split()
)
TOP_50 = tuple(
    label for label in (*GENRES, *INSTRUMENTS, *MOODS) if label.partition("---")[2] in _TOP
)

# Full quality, 320 kbit/s, and the smaller `audio-low`.
LAYOUTS = ("audio/{}.mp3", "audio/{}.low.mp3", "{}.mp3", "{}.low.mp3")

_REPOSITORY = "https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/master"
# Size and SHA-256 of train, valid and test of split-0. The source publishes no checksums; these
# are of the published files. Two train files were only seen in part: their size alone is known.
_FILES = {
    "top50tags": (
        (3_742_433, ""),
        (1_368_240, "4f5f0f0a7662f523b45727476f67d799d6e98151b2c585a8e94e19d980ad93c1"),
        (1_349_950, "3ede06a35e6cb27e1dbe8cfc84708a607622e30e5cd0a7199fce6c081124bc35"),
    ),
    "genre": (
        (3_352_194, ""),
        (1_149_174, "3e203b4c573db6ec63a06c7066cf678dcf673a68ad5694c8fed22637c270dbcf"),
        (1_178_477, "cf917388eebfa7d17d363c2fca037e2379ac027e31aa6dbe92e8dbf409ac5098"),
    ),
    "instrument": (
        (1_620_241, "f844a85f0b40bb31a5d5b448ddfc10a68d7b38ecc760673d23df2bd6e7ca0f4c"),
        (739_141, "a5060020013ac5ba65c6470ee83fc2a9785db1fe554b55065de08aa9b0cca70d"),
        (591_244, "8c1ab86f3212b6484106baf2e78f70dd5520b917607487ac98999adbd5d7ab1a"),
    ),
    "moodtheme": (
        (994_295, "e5e9e798364b34bd241b773e5011809b24429edf471f27cf21dd8181077ba2d4"),
        (367_846, "ecaa279367153476884d84d686479e566234cef1814bd6892a8755ba0a550dbf"),
        (421_306, "4341b5586bb3e5a80a882ce9ef33cb8b1bdaa7df856246ecc5de188dfe1cf394"),
    ),
}
# The tags in order, where the source lists them: to compare with ours, not read.
_TAG_LISTS = {"top50tags": ("top50.txt", 923), "moodtheme": ("moodtheme_split.txt", 1_154)}

BY_HAND = (
    "MTG's own script downloads the audio. Let it write into the folder 'audio' of this task's "
    "folder DIR:\n  git clone https://github.com/MTG/mtg-jamendo-dataset\n  cd "
    "mtg-jamendo-dataset\n  pip install -r scripts/requirements.txt\n  mkdir -p DIR/audio\n  "
    "python3 scripts/download/download.py --dataset {} --type audio DIR/audio --unpack "
    "--remove\nThat is {}. '--type audio-low' is the same music in a smaller size, and is read "
    "as well.\nAfterwards DIR/audio/15/215.mp3 (or DIR/audio/15/215.low.mp3) is a file. The four "
    "mtg_jamendo tasks\ncan share one folder: give each the same DIR."
)


def _table_path(subset: str, split_name: str, name: str) -> str:
    return f"data/splits/{split_name}/autotagging_{subset}-{name}.tsv"


def _remotes(subset: str) -> dict[str, tuple[Remote, ...]]:
    remotes = []
    for name, (num_bytes, digest) in zip(SPLIT_FILES.values(), _FILES[subset], strict=True):
        path = _table_path(subset, "split-0", name)
        checksum = f"sha256:{digest}" if digest else ""
        remotes.append(Remote(f"{_REPOSITORY}/{path}", path, checksum, num_bytes))
    if subset in _TAG_LISTS:
        name, num_bytes = _TAG_LISTS[subset]
        path = f"data/tags/{name}"
        remotes.append(Remote(f"{_REPOSITORY}/{path}", path, num_bytes=num_bytes))
    return {"split-0": tuple(remotes)}


# name -> subset, as files call it; title; labels; sizes of split-0.
SUBSETS = {
    "mtg_jamendo_top50": ("top50tags", "top 50", TOP_50, (32_136, 10_888, 11_356)),
    "mtg_jamendo_genre": ("genre", "genre", GENRES, (32_572, 11_043, 11_479)),
    "mtg_jamendo_instrument": ("instrument", "instrument", INSTRUMENTS, (14_395, 5_466, 5_115)),
    "mtg_jamendo_moodtheme": ("moodtheme", "mood/theme", MOODS, (9_949, 3_802, 4_231)),
}
_MEDIAEVAL = {"moodtheme": "Split and 56 tags of MediaEval 2020's Emotion and Theme Recognition. "}
_AUDIO = {"moodtheme": ("autotagging_moodtheme", "152 GB")}

TASKS = {
    name: Task(
        name=name,
        title=f"MTG-Jamendo {title}",
        kind="tags",
        labels=labels,
        group_name="artist",
        splits={"split-0": sizes},
        remotes=_remotes(subset),
        by_hand=BY_HAND.format(*_AUDIO.get(subset, ("raw_30s", "508 GB"))),
        licence="tables CC BY-NC-SA 4.0; each track under its own Creative Commons licence",
        citation="D. Bogdanov, M. Won, P. Tovstogan, A. Porter, X. Serra: The MTG-Jamendo dataset "
        "for automatic music tagging. ML4MD workshop, ICML 2019",
        homepage="https://github.com/MTG/mtg-jamendo-dataset",
        split_source="MTG, split-0: no artist in two splits",
        caveat=_MEDIAEVAL.get(subset, "")
        + (
            "Tags are the uploaders'; a tag that nobody gave counts as absent. The four tasks "
            "share tracks. Some hundred recordings are in the data twice, under two ids (issue "
            "52 of its repository)."
        ),
    )
    for name, (subset, title, labels, sizes) in SUBSETS.items()
}


def read(task: Task, folder: Path, split_name: str) -> tuple[list[Example], Problems]:
    """Read the tracks of one subset, in the tables' order, with their artist as the group.

    `folder` holds `data/splits/SPLIT/autotagging_SUBSET-train.tsv` and so on, as MTG's repository
    does, and the audio, as `audio/15/215.mp3`, `15/215.mp3` or `.low.mp3`. ValueError where a table
    is missing or of another format.
    """
    subset = SUBSETS[task.name][0]
    rows = []
    for split, name in SPLIT_FILES.items():
        path = folder / _table_path(subset, split_name, name)
        rows += [
            (
                where,
                row["TRACK_ID"],
                row["PATH"].removesuffix(".mp3"),
                tags,
                split,
                row["ARTIST_ID"],
            )
            for where, row, tags in read_table(path, COLUMNS, is_quoted=False, is_last_open=True)
        ]
    layout = find_layout(folder, LAYOUTS, (stem for _, _, stem, *_ in rows))
    examples = [
        Example(track_id, layout.format(stem), tuple(tags), split, group, where)
        for where, track_id, stem, tags, split, group in rows
    ]
    return examples, []
