"""The works that docstrings cite by key; a test holds the two together."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One work.

    Attributes:
        authors: family names and initials.
        title: as printed.
        venue: journal or proceedings, volume and pages.
        year: of publication.
        doi: without the resolver's address; "" if there is none.
        arxiv: number, or "".
    """

    authors: str
    title: str
    venue: str
    year: int
    doi: str = ""
    arxiv: str = ""


REFERENCES: dict[str, Reference] = {
    "alpaydin1998optical": Reference(
        "Alpaydin, E. and Kaynak, C.",
        "Optical Recognition of Handwritten Digits",
        "UCI Machine Learning Repository",
        1998,
        doi="10.24432/C50P49",
    ),
    "bertsekas1976goldstein": Reference(
        "Bertsekas, D. P.",
        "On the Goldstein-Levitin-Polyak gradient projection method",
        "IEEE Transactions on Automatic Control 21(2), 174-184",
        1976,
        doi="10.1109/TAC.1976.1101194",
    ),
    "clopper1934use": Reference(
        "Clopper, C. J. and Pearson, E. S.",
        "The use of confidence or fiducial limits illustrated in the case of the "
        "binomial",
        "Biometrika 26(4), 404-413",
        1934,
        doi="10.1093/biomet/26.4.404",
    ),
    "deng2020towards": Reference(
        "Deng, Z., He, H., Huang, J. and Su, W. J.",
        "Towards Understanding the Dynamics of the First-Order Adversaries",
        "Proceedings of the 37th International Conference on Machine Learning, "
        "PMLR 119",
        2020,
        arxiv="2010.10650",
    ),
    "good1953population": Reference(
        "Good, I. J.",
        "The population frequencies of species and the estimation of population "
        "parameters",
        "Biometrika 40(3-4), 237-264",
        1953,
        doi="10.1093/biomet/40.3-4.237",
    ),
    "hager2005conjugate": Reference(
        "Hager, W. W. and Zhang, H.",
        "A new conjugate gradient method with guaranteed descent and an efficient "
        "line search",
        "SIAM Journal on Optimization 16(1), 170-192",
        2005,
        doi="10.1137/030601880",
    ),
    "higham2002accuracy": Reference(
        "Higham, N. J.",
        "Accuracy and Stability of Numerical Algorithms, second edition",
        "Society for Industrial and Applied Mathematics",
        2002,
        doi="10.1137/1.9780898718027",
    ),
    "hintermuller2002primal": Reference(
        "Hintermüller, M., Ito, K. and Kunisch, K.",
        "The primal-dual active set strategy as a semismooth Newton method",
        "SIAM Journal on Optimization 13(3), 865-888",
        2002,
        doi="10.1137/S1052623401383558",
    ),
    "kuczynski1992estimating": Reference(
        "Kuczyński, J. and Woźniakowski, H.",
        "Estimating the largest eigenvalue by the power and Lanczos algorithms with a "
        "random start",
        "SIAM Journal on Matrix Analysis and Applications 13(4), 1094-1122",
        1992,
        doi="10.1137/0613066",
    ),
    "madry2018towards": Reference(
        "Madry, A., Makelov, A., Schmidt, L., Tsipras, D. and Vladu, A.",
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "International Conference on Learning Representations",
        2018,
        arxiv="1706.06083",
    ),
    "martinez1994local": Reference(
        "Martínez, J. M.",
        "Local minimizers of quadratic functions on Euclidean balls and spheres",
        "SIAM Journal on Optimization 4(1), 159-176",
        1994,
        doi="10.1137/0804009",
    ),
    "rump2006verification": Reference(
        "Rump, S. M.",
        "Verification of positive definiteness",
        "BIT Numerical Mathematics 46(2), 433-452",
        2006,
        doi="10.1007/s10543-006-0056-1",
    ),
    "salmon2011parallel": Reference(
        "Salmon, J. K., Moraes, M. A., Dror, R. O. and Shaw, D. E.",
        "Parallel random numbers: as easy as 1, 2, 3",
        "Proceedings of the International Conference for High Performance Computing, "
        "Networking, Storage and Analysis (SC11)",
        2011,
        doi="10.1145/2063384.2063405",
    ),
}
