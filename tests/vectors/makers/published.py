"""Known answers that others have published, with the document and the place in it. Copied, not computed."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

SP_800_38A = "NIST SP 800-38A (2001), appendix F.5.1, CTR-AES128.Encrypt"
RFC_8439 = "RFC 8439 (in RFC 7539 the same), "
_SUNSCREEN = (
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen "
    "would be it."
)

STREAMS: list[Json] = [
    {
        "source": SP_800_38A,
        "cipher": "aes-128-ctr",
        "key": "2b7e151628aed2a6abf7158809cf4f3c",
        "first_block": "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
        "plaintext": "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        "ciphertext": "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
    },
    {
        "source": "RFC 3686, section 6, test vector #2",
        "cipher": "aes-128-ctr",
        "key": "7e24067817fae0d743d6ce1f32539163",
        "first_block": "006cb6dbc0543b59da48d90b00000001",
        "plaintext": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "ciphertext": "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
    },
    {
        "source": "FIPS 197 (2001), appendix C.1: one block",
        "cipher": "aes-128-ctr",
        "key": "000102030405060708090a0b0c0d0e0f",
        "first_block": "00112233445566778899aabbccddeeff",
        "plaintext": "00" * 16,
        "ciphertext": "69c4e0d86a7b0430d8cdb78070b4c55a",
    },
    {
        "source": "NIST, AES Known Answer Test vectors (KAT_AES.zip, of the AESAVS), ECBKeySbox128.rsp, "
        "[ENCRYPT], "
        "COUNT 0: the plaintext zero is the first block of our stream under this key",
        "cipher": "aes-128-ctr",
        "key": "10a58869d74be5a374cf867cfb473859",
        "first_block": "00" * 16,
        "plaintext": "00" * 16,
        "ciphertext": "6d251e6944b051e04eaa6fb4dbf78465",
    },
    {
        "source": "McGrew and Viega, The Galois/Counter Mode of Operation (2004), appendix B, test case 1: "
        "H, the "
        "encryption of zero under the key zero",
        "cipher": "aes-128-ctr",
        "key": "00" * 16,
        "first_block": "00" * 16,
        "plaintext": "00" * 16,
        "ciphertext": "66e94bd4ef8a2c3b884cfa59ca342b2e",
    },
    *(
        {
            "source": f"{RFC_8439}appendix A.1, test vector #{number}",
            "cipher": "chacha20",
            "key": key,
            "first_block": counter.to_bytes(4, "little").hex() + nonce,
            "plaintext": "00" * 64,
            "ciphertext": stream,
        }
        for number, key, counter, nonce, stream in (
            (
                1,
                "00" * 32,
                0,
                "00" * 12,
                "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
                "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
            ),
            (
                2,
                "00" * 32,
                1,
                "00" * 12,
                "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
                "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
            ),
            (
                3,
                "00" * 31 + "01",
                1,
                "00" * 12,
                "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
                "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
            ),
            (
                4,
                "00ff" + "00" * 30,
                2,
                "00" * 12,
                "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
                "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
            ),
            (
                5,
                "00" * 32,
                0,
                "00" * 11 + "02",
                "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
                "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
            ),
        )
    ),
    {
        "source": f"{RFC_8439}section 2.3.2",
        "cipher": "chacha20",
        "key": bytes(range(32)).hex(),
        "first_block": "01000000" + "000000090000004a00000000",
        "plaintext": "00" * 64,
        "ciphertext": "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    },
    {
        "source": f"{RFC_8439}section 2.4.2",
        "cipher": "chacha20",
        "key": bytes(range(32)).hex(),
        "first_block": "01000000" + "000000000000004a00000000",
        "plaintext": _SUNSCREEN.encode().hex(),
        "ciphertext": "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b"
        "f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8"
        "07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736"
        "5af90bbf74a35be6b40b8eedf2785e42874d",
    },
]

HKDF: list[Json] = [
    {
        "source": "RFC 5869, appendix A.1",
        "secret": "0b" * 22,
        "salt": "000102030405060708090a0b0c",
        "info": "f0f1f2f3f4f5f6f7f8f9",
        "key": "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    },
    {
        "source": "RFC 5869, appendix A.2",
        "secret": bytes(range(0x00, 0x50)).hex(),
        "salt": bytes(range(0x60, 0xB0)).hex(),
        "info": bytes(range(0xB0, 0x100)).hex(),
        "key": "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87",
    },
    {
        "source": "RFC 5869, appendix A.3",
        "secret": "0b" * 22,
        "salt": "",
        "info": "",
        "key": "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    },
]

X25519: list[Json] = [
    {
        "source": "RFC 7748, section 5.2, first test vector",
        "secret": "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "public": "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "agreed": "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    },
    {
        "source": "RFC 7748, section 5.2, second test vector; the public key has the top bit set, which is "
        "ignored",
        "secret": "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "public": "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "agreed": "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    },
    {
        "source": "RFC 7748, section 6.1, Alice's secret key and Bob's public key",
        "secret": "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "public": "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        "agreed": "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    },
    {
        "source": "RFC 7748, section 6.1, Bob's secret key and Alice's public key",
        "secret": "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "public": "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "agreed": "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    },
]

AES_256_GCM: list[Json] = [
    {
        "source": "McGrew and Viega, The Galois/Counter Mode of Operation (2004), appendix B, test case 16",
        "key": "feffe9928665731c6d6a8f9467308308" * 2,
        "nonce": "cafebabefacedbaddecaf888",
        "associated": "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "plaintext": "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "ciphertext": "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "tag": "76fc6ece0f4e1768cddf8853bb2d551b",
    },
]

ED25519: list[Json] = [
    {
        "source": "RFC 8032, section 7.1, TEST 1",
        "secret": "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "public": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "statement": "",
        "signature": "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    },
    {
        "source": "RFC 8032, section 7.1, TEST 2",
        "secret": "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "public": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "statement": "72",
        "signature": "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    },
    {
        "source": "RFC 8032, section 7.1, TEST 3",
        "secret": "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "public": "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "statement": "af82",
        "signature": "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    },
    {
        "source": "RFC 8032, section 7.1, TEST SHA(abc)",
        "secret": "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "public": "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "statement": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd"
        "454d4423643ce80e2a9ac94fa54ca49f",
        "signature": "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    },
]

FCP = "google/federated-compute, d159e61, fcp/secagg/"

SHAMIR: list[Json] = [
    {
        "source": f"{FCP}shared/shamir_secret_sharing_test.cc, ReconstructWorksWithPrecomputedShares; there "
        "a share is two elements, and the secret 00000021 is the elements 0 and 33",
        "prime": f"{2**31 + 11:x}",
        "t": 3,
        "element": element,
        "secret": secret,
        "shares": {str(x): share for x, share in enumerate(given, 1)},
    }
    for element, secret, given in (
        (0, "0", ["70cf762e", "30a0c5ac", "3f73ee90", "1d48f0cf", "4a1fcc74"]),
        (1, "21", ["6ed4aa1c", "26eb91cc", "2844b747", "72e01a8d", "06bdbb88"]),
    )
]

PACKING: list[Json] = [
    {
        "source": f"{FCP}shared/secagg_vector_test.cc",
        "ring_bits": bits,
        "values": [f"{v:x}" for v in values],
        "packed": packed,
    }
    for bits, values, packed in ((5, [1, 3, 7, 15], "619c07"), (9, [13, 17, 19], "0d224c00"))
]

DEGREES_SOURCE = (
    f"{FCP}server/graph_parameter_finder_test.cc: security 40, correctness 20 bits; CURIOUS_SERVER is our "
    "semi-honest, SEMI_MALICIOUS_SERVER our active at 40 bits (ours has 128). That test asks for this degree "
    "and at most this threshold"
)
_AT = [10**i for i in range(1, 7)]
DEGREES: list[tuple[int, float, float, str, int, int]] = [
    (n, corrupt, dropout, adversary, *choice)
    for corrupt, dropout, adversary, choices in (
        (0.05, 0.05, "semi-honest", [(2, 2), (12, 6), (30, 17), (34, 20), (36, 21), (38, 22)]),
        (0.05, 0.05, "active", [(2, 2), (16, 11), (52, 37), (62, 44), (68, 48), (74, 52)]),
        (0.05, 0.33, "semi-honest", [(4, 2), (28, 6), (72, 24), (86, 29), (96, 32), (102, 34)]),
        (0.05, 0.33, "active", [(8, 5), (72, 39), (398, 223), (746, 420), (882, 496), (970, 545)]),
        (0.33, 0.05, "semi-honest", [(4, 4), (34, 29), (78, 60), (92, 70), (102, 77), (110, 83)]),
        (0.33, 0.05, "active", [(4, 4), (42, 37), (132, 109), (178, 146), (196, 160), (212, 173)]),
        (0.33, 0.33, "semi-honest", [(8, 4), (68, 34), (286, 150), (422, 221), (480, 251), (518, 270)]),
        (0.45, 0.45, "semi-honest", [None, (92, 46), (822, 417), (3494, 1771), (5508, 2788), (6240, 3156)]),
        (0.3, 0.3, "active", [None, (92, 62), (872, 584), (4822, 3230), (9388, 6286), (11136, 7454)]),
    )
    for n, choice in zip(_AT, choices, strict=True)
    if choice is not None
]
"""(clients, adversarial rate, dropout rate, adversary, degree, threshold)"""
