"Any picture as upright 8-bit RGB, and folders of pictures."
import io
import numpy as np, pytest
from PIL import Image
from cifar_fastai.core import InputError
from cifar_fastai.images import fit_image, open_image

def noise(w, h, seed=0): return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (h,w,3), dtype=np.uint8))
def saved(img, fmt, **kw):
    f = io.BytesIO(); img.save(f, fmt, **kw)
    return f.getvalue()
white = Image.new('RGB', (8,8), 'white')

@pytest.mark.parametrize('fmt', ['JPEG','PNG','WEBP','TIFF'])
def test_open_image_applies_the_rotation_of_exif(fmt):
    exif = Image.Exif(); exif[0x112] = 6
    assert open_image(saved(noise(40, 30), fmt, exif=exif)).size == (30, 40) and open_image(
        saved(noise(40, 30), fmt)
    ).size == (40, 30)


def test_open_image_scales_16_bits_to_8():
    deep = np.array([[0,257*100,65535]], np.uint16)
    img = Image.fromarray(deep)
    for o in (saved(img, 'PNG'), saved(img, 'TIFF'), Image.fromarray(deep.astype(np.int32))):
        assert np.asarray(open_image(o))[0,:,1].tolist()==[0,100,255]

@pytest.mark.parametrize('mode', ['CMYK','L','1','P','F','YCbCr'])
def test_open_image_keeps_white_white_in_any_mode(mode):
    assert open_image(white.convert(mode)).getpixel((3,3))==(255,255,255)

def test_open_image_reads_cmyk_jpegs():
    assert open_image(saved(white.convert('CMYK'), 'JPEG')).getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize('mode', ['RGBA','LA','RGBa','PA'])
def test_open_image_lays_transparency_over_white(mode):
    clear = Image.new('RGBA', (4,4), (0,0,0,0)).convert('LA' if 'L' in mode else 'RGBA').convert(mode)
    assert open_image(clear).getpixel((1,1))==(255,255,255)

def test_open_image_knows_a_transparent_color():
    assert open_image(saved(Image.new('RGB', (4,4)), 'PNG', transparency=(0,0,0))).getpixel((0,0))==(255,255,255)
    assert open_image(saved(Image.new('P', (4,4)), 'PNG', transparency=0)).getpixel((0,0))==(255,255,255)

def test_open_image_takes_the_first_frame():
    gif = saved(Image.new('RGB', (9,9), 'red'), 'GIF', save_all=True, append_images=[Image.new('RGB', (9,9), 'blue')])
    assert open_image(gif).getpixel((4,4))==(255,0,0)

def test_open_image_takes_floats_as_arrays():
    assert np.asarray(open_image(np.full((4,4,1), 0.5))).max()==128

bad_arrays = [np.zeros((3,32,32), np.uint8), np.zeros((4,4), np.int64), np.full((4,4), 7.), np.zeros((0,4), np.uint8)]
@pytest.mark.parametrize('a', bad_arrays, ids=lambda a: f'{a.dtype} {a.shape}')
def test_open_image_refuses_arrays_that_are_no_image(a):
    with pytest.raises(InputError, match='is not an image'): open_image(a)

def test_open_image_refuses_a_cut_file_and_no_file():
    with pytest.raises(InputError, match='cannot read image'): open_image(saved(noise(300, 300), 'JPEG')[:3000])
    with pytest.raises(InputError, match='cannot read image'): open_image(None)

def test_open_image_leaves_the_image_it_was_given(tmp_path):
    exif = Image.Exif(); exif[0x112] = 6
    img = Image.open(io.BytesIO(saved(noise(40, 30), 'PNG', exif=exif)))
    assert open_image(img).size==(30,40) and img.size==(40,30)

def test_fit_image_keeps_the_center():
    img = noise(40, 30)
    assert np.array_equal(np.asarray(fit_image(img, 30)), np.asarray(img)[:,5:35])
    assert fit_image(noise(500, 3), 32).size==(32,32)
