"""WISDM as data: accelerometer windows of 36 persons, who are the domains."""

from __future__ import annotations

from da.data.benchmarks import Benchmark, Source

_REPOSITORY = (
    "https://raw.githubusercontent.com/ayhamo/SRP_Domain_Adaptation/"
    "ba0c5d01d9c418d0262632ea5a171bb6f09467d5/data/WISDM"
)
# One person a line: windows for training and for tests, git blob ids of the two files.
_PERSONS = """
129 70 f58e819ff0a747340e3d5a9c28714635d4aa6302 da00a3caef0d335fd1f45f71a4128b20f7ea4a9d
102 55 1e5ffe99cb48b35d1ded6b39d74af6f1bf1b6626 0c964192397d027ceb31a21f6407cfb80ff63a3e
152 82 52d7dd3197265b03e1d63eca55f66edc7ef2a85c 9e9add6e69be7d7bb53a993476c43ed238111b6b
47 26 b32522a19587d7ea7eb37d72fb45f2e29966c8ee 5fff93121f0839858cbe1296f47b23eeec232b3f
123 66 565b04b6a884a253418f8299fa3c83a1f2f0dbae 8f97fb7335e909185a1a8ce600d8c60e8289061a
128 69 52d93267b57627b4f0671bf59f8d1bac3fb3d43d 5bb086ce9215e4ad28946e203b4756f8116d4bc2
133 72 596deceb3709adeed7e63996fefb4a7687207164 c10b3342562254e4fda5f5a52e42801cdb05be3d
178 96 26184286629ec6bd310a4f52add29b53bfb52ba2 48a3919a1245a51cc9d3d1510763da6f0a3d2d8d
56 30 2776638e332c953a9b83b6059fe4fb3c76989611 a8080a3be473d5109f6f7e75988844513e86550c
150 81 1651f4b653e3dcf0413778d66cefe68a20fc8375 d56d48862794e266bb6be40563185a3999ad4b1a
136 74 00ce97a8c1dcc1fc7909e53e91dcf79a9aecbf14 4d1a8c935fd1e47dd748b7317141983653f2423d
140 76 2703f83713feafd2b627a6a04613c861aec3e2d4 aa09377a890e53700ec132103cd64dde73521613
160 87 fa84334d35e045e39d102a4a12d76850c25d0441 2be644f1fbb1150fabaa9b39ca586c5b673941ce
165 89 6149c1191fffa0f3683ba28298d2fae774b7e788 5ca6bbefcdf881e6fd5bfc22c2f87f7088ea5c4c
122 66 aedcb9f5061965a877dd09b551ab2e02f50c10be 379fb92fa18d71ccecdaa4ef7f369a85222845be
88 48 e7868d3a13627b1542aa6e73b0b4b581ef611135 7bf4d5119639e0074fae0e4ec05d354ef0ed7210
95 51 4d04ff3616a9e42c84a3f4104d249b93762d0c3d 959e164d54daa5811fb6ad009759921cc27e1b98
141 76 e5c2f9391251ea1d79474434baaabce0a08cbc35 10e95f971521456ba9aa85681efe9ea23a87d374
196 106 f690431e039cfa010c71a7a5970157c48ad5c038 15aee2c8ea07990a962e26bbabe831d4711f220f
246 132 5a2a9a804f287200f61bf02ce5d87f16f87b8ae1 149f059743f3e846fff26cc424b6b7ca3c3b3566
152 82 6cb52e75ddc8176d5c9e09348eeaba8939b3cbb8 7ec23ce01ae8f6a45a264d84d61b1ce429ec5822
96 52 2b3aceeeca2e422d9f97801c96e17a02c0cc7fdc 3db4cf38c439c03c8f5ee6f84e2ea41b0b94bdc8
111 60 d68fffce841b8ed9b075c2f6eada89b0063733f3 0f79a35c03d3557d6006d2e41f9173931ae2a32a
109 60 bf85c1eb3de9754a61e5f3c22180bfedb1e7dedd 445555dd5ed98c14709484649aa2a35ffe707995
57 32 8220783f1f522b44f27d9b7c4d8ba0c2c4b73ee1 f17d77afda6fd1fc013bba530281c9ca1b4a8597
141 76 00a077f93fcb327c3b2cd39d9374f63e5cfe80e4 222ac8ef3c006c48e7792f95befb1045b1e1597c
151 82 ead4ef4d1348f71a279b95d36e584fcd26d97685 f4b005c768f7cd3b60f85bcd0e8e876f7329b343
92 50 4b823d70cdb123318b3241034c6041302330995e 122acb045677d4a2ef5e001265ae991d9defa663
165 89 f47dec08faf3f9ef6fd9d2c078fe093140e1c5c3 cca8d1d1bc2f491847a6678cf8e9b66545c4363d
109 60 cdbbc270849fe963e2fab0f86bca85fadb45d778 c29fc45e942e9e689b4c5c879e24a428c6199635
191 103 20d1b469805eb935fdeb45b6fd5a8d68e4f33805 95900cc02ee024619bf7d7e7fb3ddbdbd27af61c
152 83 28b156f0556caa0776b8e3947f836aa26c871c7f 79fb6e46c998b8654ccb1176e4616c8eb4f25d86
127 69 9a82a44142da7f531af32e3f1a694382f4e8a117 6723f30ee9c85e6db3bfc9b52d426ecf35557c8d
155 84 82609ca6af62677fb577ac833708701959173a82 c6821f9cae7180ddf14fdd0d6f91439a98414310
96 52 09bdc2f1264463c2acfcc6c216046dd449df070c e7687ced3f665752f63cc88e785248e533fe11c1
140 75 86aa023ed7addb3e9e1c282049ff201bb8e6abf3 7910f9a4ba527842a0930ea7c91089b4cbd5f8e9
"""
_LINES = [line.split() for line in _PERSONS.split("\n") if line]
_COUNTS = {
    str(person): {"train": int(line[0]), "test": int(line[1])} for person, line in enumerate(_LINES)
}

WISDM = Benchmark(
    name="wisdm",
    title="WISDM",
    folder="wisdm",
    domains={person: sum(counts.values()) for person, counts in _COUNTS.items()},
    classes=("downstairs", "jogging", "sitting", "standing", "upstairs", "walking"),
    # The ten pairs of AdaTime.
    tasks=(
        *(("7", "18"), ("20", "30"), ("35", "31"), ("17", "23"), ("6", "19")),
        *(("2", "11"), ("33", "12"), ("5", "26"), ("28", "4"), ("23", "32")),
    ),
    citation="Kwapisz, Weiss, Moore. Activity recognition using cell phone accelerometers. ACM "
    "SIGKDD Explorations 2011. Windows and parts as AdaTime (Ragab et al., ACM TKDD 2023) prepared "
    "them.",
    splits=_COUNTS,
    sources=tuple(
        Source(f"{_REPOSITORY}/{part}_{person}.pt", digest, f"wisdm/{part}_{person}.pt")
        for person, line in enumerate(_LINES)
        for part, digest in zip(("train", "test"), line[2:], strict=True)
    ),
)
